package dead

type Shape struct {
	side int
	lost int // want `field lost is never used`
}

func (s Shape) Area() int { return s.side * s.side }

func unreached() {} // want `func unreached is never used`
