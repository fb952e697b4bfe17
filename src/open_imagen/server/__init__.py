"""HTTP servers: image generation with the studio, and human rating."""
