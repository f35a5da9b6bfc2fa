# Functions for bash and zsh: put the tools that run other people's code into the
# sandbox. Source this file from ~/.bashrc or ~/.zshrc.
#
# A function is not seen by scripts and other programs: what they start stays as it is.
# `command npm …` is npm without the sandbox.

for _sbx_tool in make npm npx yarn pnpm composer pip cargo; do
	if command -v "$_sbx_tool" >/dev/null 2>&1; then
		eval "$_sbx_tool() { sbx -- $_sbx_tool \"\$@\"; }"
	fi
done
unset _sbx_tool

# sb COMMAND…: anything else.
sb() { sbx -- "$@"; }
# sbtry COMMAND…: without a trace, in a layer of its own.
sbtry() { sbx --rm -- "$@"; }
# sbget FILE…: take files out of the layer, between runs.
sbget() {
	for _sbx_file in "$@"; do
		mv -i -- "$(sbx path "$_sbx_file")" "$_sbx_file" || return
	done
}
