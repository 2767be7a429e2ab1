# $1: how many stay. An upgrade leaves it running: postun of the old one restarts it.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now tcpstall-hooks.service tcpstall.service || :
	else
		systemctl --no-reload disable tcpstall-hooks.service tcpstall.service || :
	fi
fi
