"""What a target raises if a parser breaks its contract in a way that is no exception."""


class ContractError(Exception):
    """A parser did not do what it documents."""


def require(met: object, problem: str) -> None:
    """Check a part of the contract.

    Args:
        met: Whether it is met.
        problem: What is wrong if not.

    Raises:
        ContractError: It is not met.
    """
    if not met:
        raise ContractError(problem)
