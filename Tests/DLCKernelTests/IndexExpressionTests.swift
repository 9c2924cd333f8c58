import DLCKernel
import DLCTensor
import Testing

@Suite struct IndexExpressionTests {
  @Test func indexSimplification() {
    let i = LoopVariable(id: 0, extent: 6)
    let j = LoopVariable(id: 1, extent: 8)
    let flat = IndexExpression(i) * 8 + IndexExpression(j)
    #expect(flat.quotient(8) == IndexExpression(i))
    #expect(flat.remainder(8) == IndexExpression(j))
    // Taken apart and put together it is what it was, along any number of axes.
    let position = IndexExpression(LoopVariable(id: 2, extent: 401_408))
    for sizes in [[64, 32, 14, 14], [2, 7, 14336, 2], [401_408], [32, 12544]] {
      #expect(linearize(delinearize(position, sizes), sizes) == position)
    }
    #expect(flat.quotient(4).quotient(2) == IndexExpression(i))
    let k = LoopVariable(id: 2, extent: 48)
    let back = IndexExpression(k).quotient(8) * 8 + IndexExpression(k).remainder(8)
    #expect(back == IndexExpression(k))
    // What is too small to reach the next multiple does not count, constants included.
    let column = LoopVariable(id: 3, extent: 14)
    let place = IndexExpression(i) * 16 + IndexExpression(column) + 17
    #expect(place.quotient(32) == (IndexExpression(i) + 1).quotient(2))
    #expect(
      place.remainder(32)
        == (IndexExpression(i) + 1).remainder(2) * 16 + IndexExpression(column) + 1)
  }

  /// Quotients and remainders of random expressions against plain arithmetic.
  @Test func indexArithmeticIsExact() {
    var word: UInt64 = 0
    func random(_ bound: Int) -> Int {
      word += 1
      return Int(Philox.word(index: word, key: 5, counter: 1)) % bound
    }
    for _ in 0..<2000 {
      let a = LoopVariable(id: 0, extent: 1 + random(7))
      let b = LoopVariable(id: 1, extent: 1 + random(9))
      let (ca, cb, c0, d1, d2) = (
        random(9) - 3, random(20) - 5, random(30) - 10, 1 + random(8), 1 + random(5)
      )
      let e = IndexExpression(a) * ca + IndexExpression(b) * cb + c0
      let whole = e.quotient(d1)
      let mixed = whole.remainder(d2) * 3 + e.remainder(d1)
      for x in 0..<a.extent {
        for y in 0..<b.extent {
          func value(_ expression: IndexExpression) -> Int {
            let bound = expression.substitute { IndexExpression($0 == a ? x : y) }
            return bound.constant
          }
          let v = ca * x + cb * y + c0
          let q = Size.floorDivide(v, d1)
          #expect(value(whole) == q)
          #expect(value(mixed) == (q - Size.floorDivide(q, d2) * d2) * 3 + v - q * d1)
        }
      }
    }
  }

  /// Pixels of images in frames are at regular distances but for the ends of lines.
  @Test func linesEndWhereQuotientsChange() {
    let (row, other) = (LoopVariable(id: 0, extent: 2 * 4 * 6), LoopVariable(id: 1, extent: 9))
    let pixel = IndexExpression(row)
    let (line, column) = (pixel.quotient(6), pixel.remainder(6))
    let place =
      line.quotient(4) * 500 + line.remainder(4) * 60 + column * 8 + IndexExpression(other) * 3 + 7
    #expect(place.lines(of: row)! == (count: 6, stride: 8))
    func value(_ at: Int) -> Int {
      place.substitute { IndexExpression($0 == row ? at : 2) }.constant
    }
    for at in 1..<row.extent { #expect((value(at) - value(at - 1) == 8) == (at % 6 != 0)) }
    #expect(place.lines(of: other) == nil)
    #expect((pixel * 2 + IndexExpression(other)).quotient(6).lines(of: row) == nil)
    #expect((line + column).quotient(2).lines(of: row) == nil)
  }

  /// An element of the group that a channel is in.
  @Test func groupsAreFound() {
    let (channel, turn) = (LoopVariable(id: 0, extent: 64), LoopVariable(id: 1, extent: 9))
    let group = IndexExpression(channel).quotient(8) * 8
    let fixed = group + IndexExpression(turn) * 64 + 131
    #expect(fixed.group(of: channel)! == (size: 8, element: 3))
    let moving = group + IndexExpression(turn)
    #expect(moving.group(of: channel)! == (size: 8, element: nil))
    #expect(fixed.group(of: turn) == nil)
    #expect((group * 2).group(of: channel) == nil)
    #expect((group + IndexExpression(channel)).group(of: channel) == nil)
    #expect((group + IndexExpression(channel).remainder(8)).group(of: channel) == nil)
  }
}
