using System;
using System.Numerics;
using System.Security.Cryptography;

namespace LicenseMetering
{
    /// <summary>
    /// Verifies Ed25519 signatures (RFC 8032, 5.1.7), which .NET's own libraries cannot. It handles public values only, so its
    /// time may depend on them; it must never sign.
    /// </summary>
    internal static class Ed25519
    {
        private static readonly BigInteger P = BigInteger.Pow(2, 255) - 19;
        private static readonly BigInteger Order = BigInteger.Pow(2, 252) + BigInteger.Parse("27742317777372353535851937790883648493");
        private static readonly BigInteger D = Mod(-121665 * Inverse(121666));
        private static readonly BigInteger RootOfMinusOne = BigInteger.ModPow(2, (P - 1) / 4, P);
        private static readonly Point Base = Decode(BasePoint());

        /// <summary>The key is 32 bytes, the signature 64.</summary>
        public static bool Verify(byte[] publicKey, byte[] data, byte[] signature)
        {
            if (publicKey.Length != 32 || signature.Length != 64)
            {
                return false;
            }
            var s = LittleEndian(signature, 32, 32);
            var key = Decode(publicKey);
            if (s >= Order || key == null)
            {
                return false;
            }
            var k = Challenge(signature, publicKey, data);
            // R = sB - kA
            var found = Multiply(s, Base, k, key.Negated()).Encode();
            return found.AsSpan().SequenceEqual(signature.AsSpan(0, 32));
        }

        private static BigInteger Challenge(byte[] signature, byte[] publicKey, byte[] data)
        {
            using (var hash = SHA512.Create())
            {
                hash.TransformBlock(signature, 0, 32, null, 0);
                hash.TransformBlock(publicKey, 0, 32, null, 0);
                hash.TransformFinalBlock(data, 0, data.Length);
                return LittleEndian(hash.Hash, 0, 64) % Order;
            }
        }

        /// <summary>aP + bQ, both at once.</summary>
        private static Point Multiply(BigInteger a, Point p, BigInteger b, Point q)
        {
            var both = p.Plus(q);
            var sum = Point.Zero;
            byte[] first = Bits(a), second = Bits(b);
            for (var i = 255; i >= 0; i--)
            {
                sum = sum.Doubled();
                var isFirst = (first[i / 8] >> (i % 8) & 1) == 1;
                var isSecond = (second[i / 8] >> (i % 8) & 1) == 1;
                if (isFirst || isSecond)
                {
                    sum = sum.Plus(isFirst ? (isSecond ? both : p) : q);
                }
            }
            return sum;
        }

        private static byte[] Bits(BigInteger value)
        {
            var bytes = new byte[32];
            var found = value.ToByteArray();
            Array.Copy(found, bytes, Math.Min(found.Length, 32));
            return bytes;
        }

        private static byte[] BasePoint()
        {
            var bytes = new byte[32];
            bytes.AsSpan().Fill(0x66);
            bytes[0] = 0x58;
            return bytes;
        }

        /// <summary>RFC 8032, 5.1.3; null where the bytes are no point in its one spelling.</summary>
        private static Point Decode(byte[] bytes)
        {
            var copy = (byte[])bytes.Clone();
            var isOdd = (copy[31] & 0x80) != 0;
            copy[31] &= 0x7F;
            var y = LittleEndian(copy, 0, 32);
            if (y >= P)
            {
                return null;
            }
            BigInteger u = Mod(y * y - 1), v = Mod(D * y * y + 1);
            var v3 = Mod(v * v * v);
            var x = Mod(u * v3 * BigInteger.ModPow(Mod(u * v3 * v3 * v), (P - 5) / 8, P));
            var square = Mod(v * x * x);
            if (square != u)
            {
                if (square != Mod(-u))
                {
                    return null;
                }
                x = Mod(x * RootOfMinusOne);
            }
            if (x.IsZero && isOdd)
            {
                return null;
            }
            return Point.Of(x.IsEven == isOdd ? P - x : x, y);
        }

        private static BigInteger LittleEndian(byte[] bytes, int start, int count)
        {
            // A further zero keeps it from being negative.
            var copy = new byte[count + 1];
            Array.Copy(bytes, start, copy, 0, count);
            return new BigInteger(copy);
        }

        private static BigInteger Mod(BigInteger value)
        {
            var rest = value % P;
            return rest.Sign < 0 ? rest + P : rest;
        }

        private static BigInteger Inverse(BigInteger value) => BigInteger.ModPow(value, P - 2, P);

        /// <summary>Extended coordinates (RFC 8032, 5.1.4): x = X/Z, y = Y/Z, xy = T/Z.</summary>
        private sealed class Point
        {
            public static readonly Point Zero = Of(0, 1);

            private readonly BigInteger x, y, z, t;

            private Point(BigInteger x, BigInteger y, BigInteger z, BigInteger t)
            {
                this.x = x;
                this.y = y;
                this.z = z;
                this.t = t;
            }

            public static Point Of(BigInteger x, BigInteger y) => new Point(x, y, 1, Mod(x * y));

            public Point Negated() => new Point(Mod(-x), y, z, Mod(-t));

            public Point Plus(Point other)
            {
                BigInteger a = Mod((y - x) * (other.y - other.x)), b = Mod((y + x) * (other.y + other.x));
                BigInteger c = Mod(2 * D * Mod(t * other.t)), d = Mod(2 * z * other.z);
                return Product(b - a, d - c, d + c, b + a);
            }

            public Point Doubled()
            {
                BigInteger a = Mod(x * x), b = Mod(y * y), c = Mod(2 * z * z);
                var h = a + b;
                var e = h - Mod((x + y) * (x + y));
                var g = a - b;
                return Product(e, c + g, g, h);
            }

            public byte[] Encode()
            {
                var inverse = Inverse(z);
                BigInteger ownX = Mod(x * inverse), ownY = Mod(y * inverse);
                var bytes = Bits(ownY);
                bytes[31] |= (byte)(ownX.IsEven ? 0 : 0x80);
                return bytes;
            }

            private static Point Product(BigInteger e, BigInteger f, BigInteger g, BigInteger h) =>
                new Point(Mod(e * f), Mod(g * h), Mod(f * g), Mod(e * h));
        }
    }
}
