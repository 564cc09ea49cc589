#!/bin/sh
# Installs the clients of PostgreSQL that the tests of `wayline serve --postgres` use, from Debian's packages: psql, and
# the JDBC driver for the test that runs it (java is needed beside it).
set -e
if ! command -v psql > /dev/null; then
    echo "installing psql from Debian's package postgresql-client"
    apt-get update -q
    apt-get install -q -y --no-install-recommends postgresql-client
fi
if [ ! -e /usr/share/java/postgresql.jar ]; then
    echo "installing the JDBC driver from Debian's package libpostgresql-jdbc-java"
    apt-get install -q -y --no-install-recommends libpostgresql-jdbc-java
fi
psql --version
