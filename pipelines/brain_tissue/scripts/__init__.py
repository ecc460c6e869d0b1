"""Python code of the brain tissue bundle: network, transforms, training data, training, evaluation."""
