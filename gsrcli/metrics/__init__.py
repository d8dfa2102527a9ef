"""Metrics of image quality: PSNR and SSIM, and the perceptual metrics LPIPS and DISTS."""
