"""How a picture was made, as other programs write it: one file for each format, and the files that carry them."""
