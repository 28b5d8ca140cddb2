#!/bin/sh
# Makes the stubs from the contract and builds the client with what Debian packages, without a module proxy:
#
#     apt-get install golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev \
#         protobuf-compiler protoc-gen-go protoc-gen-go-grpc
#     ./build.sh [directory]          # default: build
#     build/client [host:port] [events]
set -eu
cd "$(dirname "$0")"
mkdir -p "${1:-build}/src"
build=$(cd "${1:-build}" && pwd)

protoc -I ../../protos --go_out="$build/src" --go-grpc_out="$build/src" raven/v1/raven.proto
GO111MODULE=off GOFLAGS='' GOPATH="$build:/usr/share/gocode" go build -o "$build/client" client.go stream.go
