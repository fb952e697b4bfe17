"""The world `things`: real things as openly licensed emoji art draws them, in captioned scenes."""
