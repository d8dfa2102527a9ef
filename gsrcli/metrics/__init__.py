"""How alike two pictures are: PSNR and SSIM, and what networks see, LPIPS and DISTS."""
