BUILT_WITH_TORCH: str  # the release of torch that csrc/ was compiled with
