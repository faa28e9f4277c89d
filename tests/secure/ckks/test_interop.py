"""TenSEAL's contexts go out without their secret, and its vectors come back."""

from __future__ import annotations

import numpy as np
import pytest
import tenseal

from secure_train.ckks import InvalidInput, WrongKey
from secure_train.ckks.interop import from_vector, load_context, public_context, to_vector


@pytest.fixture(scope="module")
def context() -> tenseal.Context:
    made = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    made.global_scale = 2**40
    return made


def test_a_vector_encrypted_with_a_public_context_is_read_with_the_secret_one(
    context: tenseal.Context,
) -> None:
    sent = load_context(public_context(context))
    assert not sent.has_secret_key()
    vector = to_vector(sent, [1.5, -2.0]) * 2
    assert np.allclose(from_vector(context, vector.serialize()), [3, -4], atol=1e-4)
    with pytest.raises(WrongKey):
        from_vector(sent, vector.serialize())


def test_other_things_are_refused(context: tenseal.Context) -> None:
    integers = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, plain_modulus=1032193)
    for wrong in (integers, "context"):
        with pytest.raises(InvalidInput):
            public_context(wrong)
    with pytest.raises(InvalidInput):
        load_context(b"nothing")
    with pytest.raises(InvalidInput, match="finite"):
        to_vector(context, [np.nan])
