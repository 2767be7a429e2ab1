# $1: how many stay.
if [ "$1" -eq 0 ]; then
	# A gate that is shut would stay so: nobody is there to open it.
	rm -rf /run/tcpstall
	# The package has files only, and no folders, that could go with it.
	find /usr/share/tcpstall /usr/share/doc/tcpstall /etc/tcpstall -depth -type d -empty -delete 2>/dev/null || :
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	if [ "$1" -ge 1 ]; then
		systemctl try-restart tcpstall.service tcpstall-hooks.service || :
	fi
fi
