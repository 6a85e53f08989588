package p

func inTest() {
	fail()
}
