"""A compute capability -> what its kernels may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeq.errors import EngineError

KNOWN = (53, 61, 62, 70, 72, 75, 80, 86, 87, 88, 89, 90, 100, 101, 103, 110, 120, 121)


@dataclass(frozen=True)
class Target:
    """A GPU architecture, by its compute capability as in sm_87.

    Kernels depend on nothing else. Where the GPU itself is at hand, estimates go by its size.
    """

    sm: int
    multiprocessors: int = field(default=0, compare=False)  # 0: not known

    @property
    def name(self) -> str:
        """Return 'sm_87'."""
        return f"sm_{self.sm}"

    @property
    def has_dp4a(self) -> bool:
        """Say whether dp4a is one instruction: on sm_53 and sm_62 (Nano, TX2) it is emulated."""
        return self.sm >= 61 and self.sm != 62

    @property
    def has_wmma(self) -> bool:
        """Say whether wmma m16n16k16 takes int8: Xavier's sm_72 and everything later."""
        return self.sm >= 72

    @property
    def has_mma(self) -> bool:
        """Say whether mma.sync m8n8k16 takes int8."""
        return self.sm >= 75

    @property
    def has_wide_mma(self) -> bool:
        """Say whether there are mma.sync m16n8k32 for int8, and cp.async."""
        return self.sm >= 80

    @classmethod
    def parse(cls, name: str) -> Target:
        """Read 'sm_87'.

        Raises:
            EngineError: no architecture that kernels can be made for.
        """
        digits = name.removeprefix("sm_")
        if not digits.isdigit() or int(digits) not in KNOWN:
            listed = ", ".join(f"sm_{sm}" for sm in KNOWN)
            raise EngineError(
                f"target {name!r} is unknown; there are {listed}",
                hint="Name the board's: Nano sm_53, TX2 sm_62, Xavier sm_72, Orin sm_87, Thor "
                "sm_110.",
            )
        return cls(int(digits))
