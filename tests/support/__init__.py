"""What tests share: small networks, slow formulas, pictures whose answers are known. No test imports another test."""
