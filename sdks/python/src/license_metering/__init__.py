"""Licenses of License Metering, online and offline. Start with ``Client``."""

from ._tokens import InvalidKeySet, KeySet, TokenRefused
from .client import VERSION as __version__
from .client import Client, Features, Result
from .domains import DomainName, covers, normalize
from .licenses import LicenseClaims, judge, verify_license
from .usage import UsageStatistics
from .verdicts import Verdict, verify_verdict

__all__ = [
    "Client",
    "DomainName",
    "Features",
    "InvalidKeySet",
    "KeySet",
    "LicenseClaims",
    "Result",
    "TokenRefused",
    "UsageStatistics",
    "Verdict",
    "__version__",
    "covers",
    "judge",
    "normalize",
    "verify_license",
    "verify_verdict",
]
