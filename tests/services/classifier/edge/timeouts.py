"""Timeouts of the server that misbehaving clients get."""

HEAD_SECONDS, BODY_SECONDS, SEND_SECONDS = 2.5, 2.5, 1.5
