# Copy this checkout to the shared volume; sourced. What git ignores stays here, and so do results. Those
# there are left alone, as are the journal and Snakemake's records.
# shellcheck shell=bash

# On the volume: what was copied last, so that files deleted here go there, too; and where it arrives.
LISTED=.grace-upload
ARRIVING=.grace-arriving

# Folders here that hold results, fetched or made, and nothing of the project.
list_results() {
    find . -name .git -prune -o -name '.venv*' -prune -o \( -name .fetched -o -name .provenance \) -print |
        cut -d / -f 2 | sort -u |
        while IFS= read -r folder; do
            [ -n "$(git ls-files -- "$folder")" ] || printf '%s\n' "$folder"
        done
}

list_files() {
    local results
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        results=$'\n'$(list_results)$'\n'
        git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do
                [ ! -f "$file" ] || [[ $results == *$'\n'"${file%%/*}"$'\n'* ]] ||
                    printf '%s\n' "$file"
            done
    else
        find Snakefile workflow config profiles envs scripts studies resources -type f \
            -not -path '*/__pycache__/*'
    fi | LC_ALL=C sort
}

upload() {
    local stage
    stage=$(mktemp -d)
    list_files >"$stage/$LISTED"
    # The newest commit alone, which results name as the one that they come from.
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git clone --quiet --depth 1 --no-checkout "file://$(git rev-parse --show-toplevel)" \
            "$stage/clone"
        git -C "$stage/clone" read-tree HEAD
        mv "$stage/clone/.git" "$stage/.git"
        rmdir "$stage/clone"
    fi
    say "Copying $(wc -l <"$stage/$LISTED") files to the volume"
    tar --create --gzip --file - --directory "$stage" . \
        --directory "$PWD" --files-from "$stage/$LISTED" |
        in_transfer_pod bash -c "rm -rf $ARRIVING && mkdir $ARRIVING &&
            tar --extract --gzip --no-same-owner --directory $ARRIVING --file -"
    in_transfer_pod bash -s "$LISTED" "$ARRIVING" <<'END'
set -euo pipefail
export LC_ALL=C
# Pods of a run whose controller died may still read what is here: only what differs is replaced, and
# each file at once.
touch "$1"
comm -23 "$1" "$2/$1" | xargs --no-run-if-empty --delimiter='\n' rm -f --
digests() { # FOLDER; of what is there of the files that arrived
    (cd "$1" && xargs --delimiter='\n' sha256sum --zero -- 2>/dev/null || true) |
        sort --zero-terminated
}
folder=. files=()
move() { # what was gathered
    [ "${#files[@]}" -gt 0 ] || return 0
    mkdir -p -- "$folder"
    mv -f --target-directory="$folder" -- "${files[@]}"
    files=()
}
while IFS= read -r -d '' file; do
    into=.
    [[ $file != */* ]] || into=${file%/*}
    [ "$into" = "$folder" ] || move
    folder=$into files+=("$2/$file")
done < <(
    comm --zero-terminated -23 <(digests "$2" <"$2/$1") <(digests . <"$2/$1") |
        # Behind a digest and two characters.
        cut --zero-terminated --characters=67- | sort --zero-terminated
)
move
if [ "$(git rev-parse HEAD 2>/dev/null)" != "$(git -C "$2" rev-parse HEAD 2>/dev/null)" ]; then
    rm -rf "$2/.git.old"
    [ ! -e .git ] || mv .git "$2/.git.old"
    [ ! -e "$2/.git" ] || mv "$2/.git" .git
fi
mv "$2/$1" "$1"
rm -rf "$2"
END
    rm -rf "$stage"
}
