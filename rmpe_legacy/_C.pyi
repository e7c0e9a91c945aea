BUILT_WITH_TORCH: str  # the release of torch that csrc/ was compiled with
HAS_VECTORS: bool  # whether this processor runs the AVX2 loops
