#!/bin/sh
# Installs Chromium from Debian's packages where there is none, for the tests that look at pages in a browser.
set -eu
for name in chromium chromium-browser google-chrome-stable google-chrome; do
    if command -v "$name" > /dev/null; then
        echo "there is $name already"
        exit 0
    fi
done
echo "installs chromium from the packages of this system"
apt-get update -q
apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core
