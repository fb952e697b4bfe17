#!/bin/sh
# How these files were made: ImageMagick 6.9.11-60 (Debian's), in this folder.
set -e
red="-size 24x16 xc:#dc1e1e"
convert $red -colorspace CMYK -quality 95 cmyk.jpg
convert $red -depth 16 -define png:bit-depth=16 -define png:color-type=2 rgb16.png
convert -size 24x16 xc:gray50 -depth 16 -define png:bit-depth=16 -define png:color-type=0 gray16.png
convert -size 24x16 -delay 10 xc:#dc1e1e xc:#2850dc animated.gif
convert -size 24x16 -delay 10 xc:#dc1e1e xc:#2850dc -define webp:lossless=true animated.webp
convert -size 24x16 plasma:red-blue -interlace JPEG -quality 90 progressive.jpg
convert $red palette8.bmp
head -c 200 progressive.jpg > truncated.jpg
