#!/usr/bin/env bash
# Puts a real Kubernetes control plane (etcd, API server, controller manager, scheduler) where tests look for it, and says where.
#
# It is looked for in the cache; then in an archive: $CPN_KUBE_TARBALL, else shared/kube beside the clone; else it is built from
# Debian's sources, which takes some minutes of all cores, 2 GiB of memory and 4 GiB of disk, and installs nothing. The version is old
# and for tests alone. An archive must have the checksum that stands below, or that of $CPN_KUBE_SHA256.
set -euo pipefail

version=1.20.2
etcd_version=3.4
servers=(kube-apiserver kube-controller-manager kube-scheduler)
machine=$(uname -m)
case "$machine" in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$machine ;; esac
archive_sha256=${CPN_KUBE_SHA256:-}
[[ -n $archive_sha256 || $arch != amd64 ]] || archive_sha256=f58dc68ac358f25e6e8180d8d3cffe7cb27ca04478396e62a508e870b221e124

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpn
target=$cache/kube-$version
beside=$clone/../shared/kube/kube-$version-linux-$arch.tar.xz

fail() {
    echo "make kube: $*" >&2
    exit 1
}

# Whether a folder holds the four programs, each of the right version.
is_complete() {
    local name
    for name in "${servers[@]}"; do
        [[ $("$1/$name" --version 2>/dev/null) == "Kubernetes v$version"* ]] || return 1
    done
    [[ $("$1/etcd" --version 2>/dev/null) == "etcd Version: $etcd_version."* ]]
}

# The archive to take, or nothing.
find_archive() {
    if [[ -n ${CPN_KUBE_TARBALL:-} ]]; then
        [[ -r $CPN_KUBE_TARBALL ]] || fail "CPN_KUBE_TARBALL names $CPN_KUBE_TARBALL, which cannot be read"
        echo "$CPN_KUBE_TARBALL"
    elif [[ -r $beside ]]; then
        echo "$beside"
    fi
}

unpack() {
    local archive=$1 found
    [[ -n $archive_sha256 ]] || fail "no checksum is known for archives of $arch; name it with CPN_KUBE_SHA256"
    found=$(sha256sum <"$archive" | cut -d ' ' -f 1)
    [[ $found == "$archive_sha256" ]] \
        || fail "$archive has the checksum $found, not $archive_sha256; take the right one, or name its checksum with CPN_KUBE_SHA256"
    tar -xJf "$archive" -C "$fresh"
}

# Debian's index and packages in a folder of our own, signatures checked, the machine's apt left as it is.
configure_apt() {
    local mirror=${CPN_KUBE_MIRROR:-}
    [[ -n $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -E '^https?:' | grep -v security | head -n 1 || true)
    [[ -n $mirror ]] || fail "apt knows no mirror of Debian; name one with CPN_KUBE_MIRROR"
    mkdir -p apt/lists/partial apt/cache/archives/partial
    : >apt/status
    local kind
    for kind in deb deb-src; do
        echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} bookworm main"
    done >apt/sources
    cat >apt/conf <<CONF
Dir::Etc { SourceList "$PWD/apt/sources"; SourceParts "/dev/null"; Preferences "/dev/null"; PreferencesParts "/dev/null"; };
Dir::State { Lists "$PWD/apt/lists"; Status "$PWD/apt/status"; };
Dir::Cache "$PWD/apt/cache";
APT::Sandbox::User "";
CONF
    export APT_CONFIG=$PWD/apt/conf
    apt-get update -qq
}

# Sources, the Go that builds them, and etcd as Debian built it.
get_sources() {
    local reflect=golang-github-modern-go-reflect2-dev package
    apt-get source -qq --download-only kubernetes
    apt-get download -qq golang-1.19-go golang-1.19-src etcd-server $reflect
    for package in ./*.deb; do dpkg -x "$package" root; done
    dpkg-source --no-check -x kubernetes_"$version"*.dsc "$tree" >/dev/null 2>&1 \
        || dpkg-source --no-check -x kubernetes_*really"$version"*.dsc "$tree" >/dev/null
    # The reflect2 of that time reads the maps of newer Go wrongly and crashes.
    local vendored=$tree/vendor/github.com/modern-go/reflect2
    rm -f "$vendored"/*.go "$vendored"/*.s
    cp root/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$vendored"
    rm -f "$vendored"/*_test.go
}

# The one generated file that releases leave out: what the API server says of its types.
generate_openapi() {
    local folder folders=()
    go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    while read -r folder; do
        case $folder in
        */code-generator/* | */sample-apiserver/*) ;;
        staging/src/*) folders+=("k8s.io/kubernetes/vendor/${folder#staging/src/}") ;;
        *) folders+=("k8s.io/kubernetes/$folder") ;;
        esac
    done < <(grep -rl --include='*.go' --exclude='*_test.go' '^// *+k8s:openapi-gen=' staging/src/k8s.io pkg | xargs -n 1 dirname | sort -u)
    "$work/openapi-gen" --go-header-file hack/boilerplate/boilerplate.generatego.txt --output-base "$GOPATH/src" \
        -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi -r "$work/violations" \
        -i "$(IFS=,; echo "${folders[*]}")"
}

# In a process of its own, for it changes what programs are found.
build() (
    local tool
    for tool in apt-get dpkg-source tar xz; do
        command -v $tool >/dev/null || fail "$tool is not here: apt-get install dpkg-dev xz-utils, or name an archive with CPN_KUBE_TARBALL"
    done
    work=$fresh/work tree=$fresh/work/go/src/k8s.io/kubernetes
    mkdir -p "$fresh/bin" "$work/go/src/k8s.io" "$work/home"
    cd "$work"
    configure_apt
    get_sources
    export HOME=$work/home GOPATH=$work/go GOROOT=$work/root/usr/lib/go-1.19 GOCACHE=$work/built
    export GO111MODULE=off GOPROXY=off GOFLAGS= GOTOOLCHAIN=local CGO_ENABLED=0 PATH=$work/root/usr/lib/go-1.19/bin:$PATH
    cd "$tree"
    generate_openapi
    # Servers that do not know their version call themselves v0.0.0, which clients cannot read.
    local package stamps="-s -w"
    for package in k8s.io/kubernetes/vendor/k8s.io/{component-base,client-go/pkg}/version k8s.io/{component-base,client-go/pkg}/version; do
        stamps+=" -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=20 -X $package.gitTreeState=clean"
        stamps+=" -X $package.buildDate=2021-01-13T00:00:00Z"
    done
    go build -trimpath -tags providerless -ldflags "$stamps" -o "$fresh/bin/" "${servers[@]/#/.\/cmd\/}"
    install -m 755 "$work/root/usr/bin/etcd" "$fresh/bin/etcd"
    chmod -R u+w "$work"
    rm -rf "$work"
)

mkdir -p "$cache"
exec 9>"$cache/kube.lock"
flock 9
if is_complete "$target/bin"; then
    echo "make kube: $target/bin"
    exit 0
fi
fresh=$(mktemp -d "$cache/kube-XXXXXX")
trap 'chmod -R u+w "$fresh" 2>/dev/null || true; rm -rf "$fresh"' EXIT
archive=$(find_archive)
begin=$SECONDS
if [[ -n $archive ]]; then
    unpack "$archive"
else
    echo "make kube: building Kubernetes $version from Debian's sources, which takes some minutes"
    build
fi
is_complete "$fresh/bin" || fail "what ${archive:-was built} holds are not the servers of Kubernetes $version and etcd $etcd_version for $arch"
rm -rf "$target"
mkdir "$target"
mv "$fresh/bin" "$target/bin"
echo "make kube: $target/bin, after $((SECONDS - begin)) s"
