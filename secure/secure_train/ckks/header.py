"""What stands beside every encrypted tensor, so that what does not belong together is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

import rfc8785

from secure_train.ckks.errors import Corrupted, InvalidInput, Mismatch, ScaleOverflow
from secure_train.ckks.packing import Packing
from secure_train.ckks.parameters import Parameters

_FORMAT = "secure-train/cipher-tensor/1"
_MOST_SCALE_BITS = 50


class Content(StrEnum):
    """What the encrypted polynomials hold; see `packing`."""

    RECORDS = "records"
    ERRORS = "errors"
    OUTPUTS = "outputs"
    GRADIENT = "gradient"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class Header:
    """Everything public about an encrypted tensor.

    Attributes:
        key: fingerprint of the key pair, 32 hexadecimal digits.
        parameters: the ring.
        content: what the polynomials hold, and so how they are packed.
        shape: of the plaintext: (B, d) records, (B, k) errors and outputs, (d, k) gradient, any array.
        samples_per_block: n of the packing; N for arrays, which fill polynomials in row-major order.
        scale_bits: values are multiplied by 2^scale_bits.
        bound: public bound of the plaintext: of each row's L2 norm for records and errors, of each number
            elsewhere.
        error: the most, in the plaintext's unit, that encryption and rounding change any coefficient.

    Raises:
        InvalidInput: a field is out of range.
        ScaleOverflow: (bound + error)·2^scale_bits reaches q/2: the worst case would wrap around.
    """

    key: str
    parameters: Parameters
    content: Content
    shape: tuple[int, ...]
    samples_per_block: int
    scale_bits: int
    bound: float
    error: float

    def __post_init__(self) -> None:
        if len(self.key) != 32 or set(self.key) - set("0123456789abcdef"):
            raise InvalidInput("key: a fingerprint has 32 hexadecimal digits")
        if any(size < 0 for size in self.shape) or (
            self.content is not Content.ARRAY and len(self.shape) != 2
        ):
            raise InvalidInput(f"shape: {self.shape} is not the shape of {self.content}")
        if not 0 <= self.scale_bits <= 2 * _MOST_SCALE_BITS:
            raise InvalidInput(f"scale_bits: must lie in 0 … {2 * _MOST_SCALE_BITS}, got {self.scale_bits}")
        for name in ("bound", "error"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name}: must be finite and not negative, got {value!r}")
        if self.content is Content.ARRAY and self.samples_per_block != self.parameters.ring_degree:
            raise InvalidInput("samples_per_block: an array fills whole polynomials")
        # Constructing it checks the block's shape.
        self.packing  # noqa: B018
        self._require_room()

    def _require_room(self) -> None:
        most = (self.bound + self.error) * 2.0**self.scale_bits
        if most * (1 + 1e-9) >= self.parameters.modulus / 2:
            raise ScaleOverflow(
                f"{self.content} of at most {self.bound:g} (± {self.error:g}) at scale 2^{self.scale_bits} "
                f"may reach 2^{math.log2(most):.1f}, beyond q/2 = "
                f"2^{math.log2(self.parameters.modulus) - 1:.1f}: lower the scale or the bound (fewer "
                "records, a smaller clipping norm), or use a wider modulus"
            )

    @property
    def packing(self) -> Packing:
        """The shape of blocks."""
        return Packing(self.parameters.ring_degree, self.samples_per_block)

    @property
    def components(self) -> int:
        """Polynomials in a ciphertext: 2, or 3 after a product of two ciphertexts."""
        return 3 if self.content is Content.GRADIENT else 2

    @property
    def grid(self) -> tuple[int, ...]:
        """How many ciphertexts there are, and in what order."""
        if self.content is Content.ARRAY:
            return (-(-math.prod(self.shape) // self.parameters.ring_degree),)
        packing, (rows, columns) = self.packing, self.shape
        if self.content is Content.RECORDS:
            return (packing.sample_blocks(rows), packing.feature_blocks(columns))
        if self.content is Content.GRADIENT:
            return (packing.feature_blocks(rows), columns)
        return (packing.sample_blocks(rows), columns)

    @property
    def residues_shape(self) -> tuple[int, ...]:
        """The shape of the residues: grid, components, N."""
        return (*self.grid, self.components, self.parameters.ring_degree)

    def summed(self, other: Header) -> Header:
        """The header of a sum: bounds and errors add up.

        Raises:
            Mismatch: the two differ in anything else; every difference is named.
            ScaleOverflow: the sum may wrap around.
        """
        require_same(self, other, [f.name for f in fields(self) if f.name not in ("bound", "error")])
        return replace(self, bound=self.bound + other.bound, error=self.error + other.error)

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        ring = {"ring_degree": self.parameters.ring_degree, "modulus": str(self.parameters.modulus)}
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return rfc8785.dumps(
            plain
            | {
                "format": _FORMAT,
                "parameters": ring,
                "content": self.content.value,
                "shape": list(self.shape),
                "bound": float(self.bound).hex(),
                "error": float(self.error).hex(),
            }
        )

    @classmethod
    def from_json(cls, found: Any) -> Header:
        """Read what `to_json` wrote, parsed.

        Raises:
            Corrupted: it is no such header.
        """
        try:
            if found["format"] != _FORMAT:
                raise Corrupted(
                    f"format {found['format']!r} is not {_FORMAT!r}: it was written by another release"
                )
            ring = Parameters(int(found["parameters"]["ring_degree"]), int(found["parameters"]["modulus"]))
            return cls(
                key=str(found["key"]),
                parameters=ring,
                content=Content(found["content"]),
                shape=tuple(int(size) for size in found["shape"]),
                samples_per_block=int(found["samples_per_block"]),
                scale_bits=int(found["scale_bits"]),
                bound=float.fromhex(found["bound"]),
                error=float.fromhex(found["error"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupted(f"this is not the header of an encrypted tensor: {error!r}") from None


def require_same(one: Header, other: Header, names: list[str]) -> None:
    """Refuse two headers that differ in a field; all differences at once.

    Raises:
        Mismatch: they differ.
    """
    differences = [
        f"{name}: {_shown(getattr(one, name))} and {_shown(getattr(other, name))}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    ]
    if differences:
        raise Mismatch(f"{one.content} and {other.content} do not belong together: " + "; ".join(differences))


def _shown(value: Any) -> str:
    return f"N={value.ring_degree} q={value.modulus}" if isinstance(value, Parameters) else str(value)
