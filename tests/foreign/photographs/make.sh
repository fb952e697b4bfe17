#!/bin/sh
# How these files were made: ImageMagick 6.9.11-60 and ghostscript's profiles (Debian 12), in this
# folder. Each shows the sRGB colour 200, 80, 40.
set -e
icc=/usr/share/color/icc/ghostscript
orange="-size 24x16 xc:rgb(200,80,40)"
strip="-define png:exclude-chunk=date,time"
convert $orange -profile $icc/srgb.icc -profile $icc/a98.icc -quality 95 adobe-rgb.jpg
convert $orange -profile $icc/srgb.icc -profile $icc/rommrgb.icc $strip prophoto.png
convert $orange -profile $icc/srgb.icc -profile $icc/srgb.icc $strip srgb.png
convert $orange -alpha set -channel A -evaluate set 50% +channel -profile $icc/srgb.icc -profile $icc/a98.icc $strip adobe-rgb-alpha.png
convert $orange -quality 90 heif.avif
convert $orange -quality 90 heif.heic
convert $orange -compress LZW lzw.tif
convert $orange -define quantum:format=floating-point -depth 32 -colorspace gray gray-float.tiff 2>/dev/null || true  # a warning
convert $orange -quality 95 jpeg:jpeg.jfif
convert $orange jpeg2000.jp2
convert $orange plain.ppm
convert $orange plain.tga
