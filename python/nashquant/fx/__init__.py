"""What the vendor keeps under this name of its ways to capture a model; see `nashquant.fx.jit_scheme`."""
