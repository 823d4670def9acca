#!/bin/sh
# Links the static program for another machine at no fixed address, so that the kernel can put it anywhere.
# For x86_64 the compiler asks for that by itself; for these targets it says `-no-pie` with the start-up
# files of a fixed program, and no stable option changes both. Those of a movable one lie beside them.
for word do
    shift
    case $word in
        */aarch64-unknown-linux-musl/*/crt1.o) compiler=aarch64-linux-gnu-gcc ;;
        */armv7-unknown-linux-musleabihf/*/crt1.o) compiler=arm-linux-gnueabihf-gcc ;;
    esac
    case $word in
        */self-contained/crt1.o) word=${word%crt1.o}rcrt1.o ;;
        */self-contained/crtbegin.o | */self-contained/crtend.o) word=${word%.o}S.o ;;
        -no-pie) word=-static-pie ;;
    esac
    set -- "$@" "$word"
done
exec "${compiler:?is not known for this target}" "$@"
