"""pico: a tiny chat model that answers as the simulated participants of the RSA models do."""
