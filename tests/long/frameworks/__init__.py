"""Real frameworks (PyTorch, JAX, TensorFlow, llama.cpp) on the software GPU, natively and forwarded."""
