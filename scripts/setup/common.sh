# Shared by the set-up scripts; sourced, not run.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

OLDEST_PYTHON="3.11"
STOPPED="Set-up stopped"
# shellcheck source=scripts/lib/shell.sh
source scripts/lib/shell.sh

# apt-get, as root or through a sudo that asks for no password; false where neither is possible.
can_apt() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null
}

apt_install() {
    local log=$1
    shift
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    quietly "$log" "${apt[@]}" update
    quietly "$log" "${apt[@]}" install -y --no-install-recommends "$@"
}

# The first Python that is new enough: $PYTHON, else python3, else a versioned name. Inside a
# virtual environment it is the Python that the environment was made with.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info < (${OLDEST_PYTHON/./, }))" \
            2>/dev/null; then
            "$candidate" -c 'import sys; print(sys._base_executable)'
            return
        fi
    done
    die "Grace needs Python $OLDEST_PYTHON or newer; here ${PYTHON:-python3} is $(
        "${PYTHON:-python3}" --version 2>&1 || echo missing
    )." \
        "Install a newer Python, then name it: make run PYTHON=python3.12"
}

# Make the virtual environment in folder $1 unless a working one is there. One that was moved or
# whose Python is gone does not work and is rebuilt.
ensure_venv() {
    local venv=$1 python
    if "$venv/bin/python" -c 'import pip' 2>/dev/null &&
        grep -qF "$PWD/$venv" "$venv/bin/activate"; then
        return
    fi
    python=$(find_python)
    say "Making the virtual environment $venv with $("$python" --version)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        can_apt || die "$python has no 'venv' module." \
            "On Debian or Ubuntu: sudo apt-get install python$version-venv"
        say "Installing python$version-venv with apt"
        apt_install "/tmp/grace-setup-apt.$$.log" "python$version-venv"
    fi
    "$python" -m venv --clear "$venv" || die "could not make the virtual environment $venv."
}

# Stamps: a step is done while the checksum of the files that define it, kept in the environment,
# is the same. `fresh STAMP FILE...` asks, `stamp STAMP FILE...` remembers.
checksum() { cat "$@" | cksum; }
fresh() {
    local stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(checksum "$@")" ]
}
stamp() {
    local stamp=$1
    shift
    checksum "$@" >"$stamp"
}

# The pins of lock file $1 as constraints for the step of torch, which has no hashes: with theirs, pip
# would ask for one of everything.
pins_of() { sed -n 's/^\([A-Za-z0-9][^ ]*==[^ ]*\).*/\1/p' "$1"; }

# Install the packages of lock file $2, and no others, in environment $1; each file is held to the
# hashes in the lock. Further arguments are pip's.
install_lock() { pip_install "$1" --no-deps --require-hashes -r "$2" "${@:3}"; }

# Install torch in environment $1, after the packages of lock file $2, so that it brings only what the
# lock does not have.
install_torch() {
    pins_of "$2" >"$1/constraints.txt"
    pip_install "$1" -r envs/torch.txt -c "$1/constraints.txt"
}

# pip without questions, notices or progress bars.
pip_install() {
    local venv=$1
    shift
    quietly "$venv/setup.log" "$venv/bin/python" -m pip install --no-input --progress-bar off \
        --disable-pip-version-check "$@"
}
