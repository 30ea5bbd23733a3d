# Behind an installation ($1 = 1) or an upgrade (2).

systemd-sysusers rlogind.conf || :
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :
if [ "$1" -eq 1 ]; then
    # Whether it is enabled is the distribution's choice, systemd.preset(5).
    systemctl --no-reload preset rlogind.service || :
else
    pid=$(systemctl show --property=MainPID --value rlogind.service 2>/dev/null) || pid=0
    # The running daemon executes the new program and keeps its sessions. The signal would
    # end a daemon that does not know it; one that does has it blocked: bit 11 of SigBlk, proc(5).
    case $(sed -n 's/^SigBlk:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) in
        *[89a-f]??) kill -s USR2 "$pid" || : ;;
        *) [ "$pid" = 0 ] || echo "rlogind: the old program goes on until it is restarted, which ends its sessions." ;;
    esac
fi
