# An app in bash: meets a refused connection, and ends with 3.
echo the app runs
for i in 1 2 3 4 5 6 7 8 9 10; do
	(exec 3<>/dev/tcp/127.0.0.1/9) 2>/dev/null
	sleep 0.1
done
exit 3
