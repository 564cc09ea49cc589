#!/bin/sh
# Builds ../echarts.min.js from the versions and hashes of package-lock.json, with the licences of what is in it beside it.
# Needs Node 18 or later and npm. The same lock file gives the same bytes; a test checks them against ../SHA256SUMS.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund
# A page carries the bundle to readers who get no other file, so the notices go with it.
notices=$(printf '/*\n'; cat node_modules/echarts/NOTICE
    printf '\nThis file: charts.js bundled from Apache ECharts 6.1.0, licensed under the Apache License 2.0\n'
    printf '(https://www.apache.org/licenses/LICENSE-2.0), with parts of d3, of zrender and of tslib:\n\n'
    cat node_modules/echarts/licenses/LICENSE-d3 node_modules/zrender/LICENSE node_modules/tslib/LICENSE.txt | tr -d '\r'; printf '\n*/')
node_modules/.bin/esbuild charts.js --bundle --minify --legal-comments=none --charset=utf8 --target=es2020 \
    --banner:js="$notices" --format=iife --global-name=echarts --define:process.env.NODE_ENV='"production"' --outfile=../echarts.min.js
cp node_modules/echarts/LICENSE ../echarts.LICENSE
cp node_modules/echarts/NOTICE ../echarts.NOTICE
cp node_modules/echarts/licenses/LICENSE-d3 ../d3.LICENSE
cp node_modules/zrender/LICENSE ../zrender.LICENSE
cp node_modules/tslib/LICENSE.txt ../tslib.LICENSE
cd ..
sha256sum echarts.min.js echarts.LICENSE echarts.NOTICE d3.LICENSE zrender.LICENSE tslib.LICENSE > SHA256SUMS
