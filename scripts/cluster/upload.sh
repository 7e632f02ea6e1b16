# Copy this checkout to the shared volume; sourced. What git ignores stays here, and results, the
# journal and Snakemake's records there are left alone.
# shellcheck shell=bash

LISTED=.grace-upload # what was copied last, so that files deleted here go there, too

list_files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
    else
        find Snakefile workflow config profiles envs scripts resources -type f \
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
    at_desk bash -c "touch $LISTED && cp $LISTED $LISTED.old && rm -rf .git"
    tar --create --gzip --file - --directory "$stage" . \
        --directory "$PWD" --files-from "$stage/$LISTED" |
        at_desk tar --extract --gzip --no-same-owner --no-overwrite-dir --file -
    at_desk bash -c "LC_ALL=C comm -23 $LISTED.old $LISTED | tr '\n' '\0' | xargs -0 -r rm -f --
        rm $LISTED.old"
    rm -rf "$stage"
}
