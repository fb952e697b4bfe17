#!/bin/sh
# Shards as GNU tar 1.34 and zstd write them from a folder of pictures, in this folder.
# Order, folders and padding are tar's; one picture has a long path, one a hard link as caption.
set -e
here=$(pwd)
work=$(mktemp -d)
cd "$work"
for k in 1 2 3; do
    convert -size 16x12 "xc:rgb($((k * 40)),0,99)" $k.png
    printf 'caption %s\n' $k > $k.txt
    printf '{"width": 16, "height": 12, "score": %s}' $k > $k.json
done
ln -f 1.txt 2.txt
long=$(printf 'long%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
mkdir -p "$long/$long"
mv 3.* "$long/$long"
for form in gnu posix; do
    tar --format=$form --sort=name --mtime=2026-01-01 --owner=0 --group=0 -cf "$here/$form.tar" .
done
for form in ustar v7; do
    tar --format=$form --mtime=2026-01-01 --owner=0 --group=0 -cf "$here/$form.tar" [12].*
done
tar --format=gnu --sort=name --mtime=2026-01-01 --owner=0 --group=0 --zstd -cf "$here/packed.tar.zst" .
rm -r "$work"
