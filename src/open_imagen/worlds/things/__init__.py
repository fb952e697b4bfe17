"""Real things as openly licensed emoji art draws them, composed into scenes."""
