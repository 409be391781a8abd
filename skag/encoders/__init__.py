"""Networks that turn clips into features: graph convolution networks, and the layers that they are made of."""
