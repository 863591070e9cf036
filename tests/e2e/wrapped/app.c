/* An app of another C library: meets a refused connection, and ends with 3. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
	struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_port = htons(9) };

	puts("the app runs");
	fflush(stdout);
	nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < 10; i++) {
		int sock = socket(AF_INET, SOCK_STREAM, 0);

		connect(sock, (struct sockaddr *)&nobody, sizeof nobody);
		close(sock);
		usleep(100 * 1000);
	}
	return 3;
}
