#!/usr/bin/env bash
# All of `ansible-test sanity` that needs no container: several minutes, and packages of its own from the index.
#
#     tests/long/ansible/sanity.sh [FOLDER OF ansible-test]
#
# ansible-test would download a script to get pip with; the pip that comes with Python does as well.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
programs=${1:-$(dirname "$(command -v ansible-test)")}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/ansible_collections/gpuferry" "$tree/home/.ansible/test/cache"
cp -r "$root/ansible" "$tree/ansible_collections/gpuferry/pool"
export HOME=$tree/home LANG=C.UTF-8 PATH=$programs:$PATH
for version in 23_1_2 2{4..7}_{0..3}; do
  printf 'import ensurepip\nensurepip.bootstrap()\n' >"$HOME/.ansible/test/cache/get_pip_$version.py"
done
cd "$tree/ansible_collections/gpuferry/pool"
exec_version=$("$programs/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ansible-test sanity --local --python "$exec_version"
