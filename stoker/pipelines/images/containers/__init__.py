"""What the containers of image formats say of their images, read without decoding any."""
