"""Errors of the DICOM decoder. They name attributes by keyword and never quote a value: it may name a patient."""

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError


def unsupported(expected: str, got: str, do: str = "export the picture as JPEG or PNG") -> UnusableImageError:
    """Return the error of a file that may be whole, but is not decoded."""
    return UnusableImageError(ErrorCode.IMAGE_UNSUPPORTED, f"expected a DICOM file with {expected}, got {got}; {do}")


def unreadable(expected: str, got: str, do: str = "export it again") -> UnusableImageError:
    """Return the error of a file that is damaged or contradicts itself."""
    return UnusableImageError(ErrorCode.IMAGE_UNREADABLE, f"expected a DICOM file with {expected}, got {got}; {do}")
