"""What quantization costs in accuracy: three small nets on real images, by nashquant and by torch.ao."""
