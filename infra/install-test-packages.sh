#!/usr/bin/env bash
# PostgreSQL with PostGIS and a browser, for the tests that use them, on Debian 12. Silent where all is there already.
# The tests make their own database cluster in a temporary folder; the one that Debian makes is not used.
set -euo pipefail
packages=(postgresql-15 postgresql-15-postgis-3 chromium)
missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "no apt-get here: without ${missing[*]}, the tests that need them are skipped" >&2
  exit 0
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "without these, some tests are skipped; install them as root: apt-get install ${missing[*]}" >&2
    exit 0
  }
  as_root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
echo "installing ${missing[*]}"
quietly apt-get update -qq
quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
