"""TenSEAL's own vectors: contexts in and out, where its parameters allow.

TenSEAL packs slots and rescales, so it needs two primes or more; its ciphertexts are not ours and are not
converted. What is: numbers, through a context. A public context encrypts, for whoever has only that; one with
its secret key decrypts. A context is always serialised before it leaves: TenSEAL's `make_context_public`
leaves a decryptor in the process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal

from secure_train.ckks.encoding import Reals
from secure_train.ckks.errors import InvalidInput, Mismatch, WrongKey


def public_context(context: Any) -> bytes:
    """A CKKS context of TenSEAL without its secret key, serialised: what may be sent.

    Raises:
        InvalidInput: it is no CKKS context.
    """
    _require_ckks(context)
    return bytes(
        context.serialize(
            save_public_key=True, save_secret_key=False, save_galois_keys=True, save_relin_keys=True
        )
    )


def load_context(serialized: bytes) -> Any:
    """A CKKS context of TenSEAL.

    Raises:
        InvalidInput: it is none, or altered.
    """
    try:
        context = tenseal.context_from(serialized)
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(f"this is not a serialised TenSEAL context: {error}") from None
    _require_ckks(context)
    return context


def to_vector(context: Any, values: npt.ArrayLike) -> Any:
    """Encrypt numbers as a `ts.ckks_vector` under a context; read it back with `from_vector`.

    Raises:
        InvalidInput: the numbers are not finite, or it is no CKKS context.
    """
    _require_ckks(context)
    numbers = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(numbers).all():
        raise InvalidInput("values: are not all finite")
    return tenseal.ckks_vector(context, numbers.tolist())


def from_vector(context: Any, vector: bytes) -> Reals:
    """Decrypt a serialised `ts.ckks_vector`, such as the result of a computation elsewhere.

    Raises:
        WrongKey: the context has no secret key.
        Mismatch: the vector is not of this context's parameters, as far as SEAL tells.
    """
    _require_ckks(context)
    if not context.is_private():
        raise WrongKey("this context has no secret key: it can encrypt, not decrypt")
    try:
        return np.array(tenseal.ckks_vector_from(context, vector).decrypt(), np.float64)
    except (ValueError, RuntimeError) as error:
        raise Mismatch(f"this vector does not belong to the context: {error}") from None


def _require_ckks(context: Any) -> None:
    if not isinstance(context, tenseal.Context):
        raise InvalidInput(f"context: need a TenSEAL context, got {type(context).__name__}")
    scheme = context.seal_context().data.key_context_data().parms().scheme()
    # The two enumerations of TenSEAL's two modules are never equal, their numbers are.
    if int(scheme) != int(tenseal.SCHEME_TYPE.CKKS.value):
        raise InvalidInput("context: is not of the CKKS scheme")
