# Before a removal ($1 = 0) or the old version's part of an upgrade (1).

if [ "$1" -eq 0 ]; then
    # A superserver would go on starting what is not there any more.
    /usr/sbin/rlogind tcpmux unregister >/dev/null || :
    systemctl --no-reload disable rlogind.socket rlogind.service || :
    if [ -d /run/systemd/system ]; then
        systemctl stop rlogind.socket rlogind.service 'rlogind@*.service' || :
    fi
fi
