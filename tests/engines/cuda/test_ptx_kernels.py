"""The PTX that NVRTC emits of one convolution, for every family of architectures, is exact."""

from __future__ import annotations

import pytest

from tests.engines.cuda.convolutions import Case, check
from tests.engines.cuda.machines import InterpretedMachine

CASE = Case(n=2, h=5, w=6, c=32, oc=36, adds=True, looks_up=True)
KERNELS = {
    "sm_53": "conv_fp32 32x32x16 t4x4 k2",  # no int8 multiplication
    "sm_61": "conv_dp4a 32x32x32 t4x4 k2",
    "sm_72": "conv_wmma 32x32x64 w16x16 s2 k2",
    "sm_75": "conv_mma_8816 32x32x64 w16x16 s2 k2",
    "sm_87": "conv_mma 32x32x64 w16x16 s3 k2",
    "sm_90": "conv_mma 32x32x64 w16x16 s3 k2",
    "sm_120": "conv_mma 32x32x64 w16x16 s3 k2",
}


@pytest.mark.parametrize("target", KERNELS)
def test_a_split_convolution_is_exact(target):
    ran = check(
        CASE,
        target,
        only=KERNELS[target],
        placement="slice16",
        machine=InterpretedMachine,
        seeds=(0,),
    )
    assert ran == (KERNELS[target],)
