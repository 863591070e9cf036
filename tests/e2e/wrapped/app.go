// An app without a C library: meets a refused connection, and ends with 3.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	fmt.Println("the app runs")
	for i := 0; i < 10; i++ {
		net.Dial("tcp", "127.0.0.1:9")
		time.Sleep(100 * time.Millisecond)
	}
	os.Exit(3)
}
