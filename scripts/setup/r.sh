#!/usr/bin/env bash
# R and its packages, as listed in envs/r-packages.txt by their Debian names. Whatever is there
# already, from apt, CRAN or conda, is used; the rest comes through apt where that is possible.
#   scripts/setup/r.sh         what `make run` needs
#   scripts/setup/r.sh --dev   and what `make lint` needs (envs/apt-dev.txt)
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

lists=(envs/r-packages.txt)
[ "${1:-}" != --dev ] || lists+=(envs/apt-dev.txt)
mark=".venv/.stamp-r${1:+-dev}"

# A stamp holds only for the R that it was made with.
if fresh "$mark" "${lists[@]}" && [ "$(cat "$mark.path")" = "$(command -v Rscript)" ]; then
    exit 0
fi

wanted() { sed 's/#.*//' "${lists[@]}" | awk 'NF { print $1 }'; }

# The names of `wanted` that this machine lacks. An R package counts as present when the R on PATH
# has it, anything else when apt installed it or a command of that name is there.
missing() {
    local present="" name
    if command -v Rscript >/dev/null; then
        present=$(Rscript --vanilla -e \
            'writeLines(paste0("r-cran-", tolower(rownames(installed.packages()))))')
        present+=$'\nr-base\nr-base-core\nr-recommended'
    fi
    for name in $(wanted); do
        grep -qxF "$name" <<<"$present" || command -v "$name" >/dev/null ||
            dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
            echo "$name"
    done
}

read -r -a lacking <<<"$(missing | xargs)"
if [ ${#lacking[@]} -gt 0 ] && can_apt; then
    say "Installing R packages with apt (0.14 GB where there were none; a few minutes): ${lacking[*]}"
    apt_install .venv/setup-apt.log "${lacking[@]}"
    read -r -a lacking <<<"$(missing | xargs)"
fi
if [ ${#lacking[@]} -gt 0 ]; then
    die "R is not complete here; missing: ${lacking[*]}" \
        "With administrator's rights on Debian or Ubuntu:" \
        "  sudo apt-get install ${lacking[*]}" \
        "With conda, and no such rights:" \
        "  conda env create -n grace-r -f envs/r.yaml && conda activate grace-r" \
        "Then repeat the make command; what is done already is kept."
fi

stamp "$mark" "${lists[@]}"
command -v Rscript >"$mark.path"
