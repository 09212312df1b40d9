"""A client for tests: no network, no clock."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

from .client import Features, Result


class FakeClient:
    """Stands in for ``Client``. Answers what it is told, and remembers what it was asked.

    ``FakeClient(features=["analytics"])`` says yes; ``FakeClient(valid=False, code="expired")`` says no.
    """

    def __init__(
        self, valid: bool = True, code: Optional[str] = None, features: Iterable[str] = (), **members: Any
    ) -> None:
        self.asked: List[str] = []
        self.recorded: List[Dict[str, Any]] = []
        self.set(valid, code, features, **members)

    def set(
        self, valid: bool = True, code: Optional[str] = None, features: Iterable[str] = (), **members: Any
    ) -> None:
        """Changes the answer. ``members`` are those of ``Result``."""
        self.result = Result(
            valid=valid,
            code=code or ("valid" if valid else "not_found"),
            source=members.pop("source", "online"),
            features=Features(features),
            **members,
        )

    def validate(self, domain: str, license_key: Optional[str] = None) -> Result:
        """The answer that was set."""
        self.asked.append(domain)
        return self.result

    validate_offline = validate

    def record(
        self,
        meter: str,
        quantity: int = 1,
        license_id: Optional[str] = None,
        domain: Optional[str] = None,
        feature: Optional[str] = None,
    ) -> bool:
        """Kept in ``recorded``."""
        self.recorded.append(
            {"meter": meter, "quantity": quantity, "license_id": license_id, "domain": domain, "feature": feature}
        )
        return True

    def close(self, timeout: float = 5) -> None:
        """Does nothing."""
