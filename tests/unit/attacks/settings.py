"""Attacks of the table with those of some settings that they have."""

from buckler.attacks.table import ATTACKS, build


def with_settings(name, **settings):
    known = ATTACKS[name].setting_names()
    return build(name, **{key: value for key, value in settings.items() if key in known})
