import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import redis.clients.jedis.Jedis;

/** Prints the parameters of one mirror as JSON: Reader REDIS_URL KEY [FILE_WITH_SUB_KEYS [All]] */
class Reader {
    record Line(String type) {}

    static final Pattern ENC = Pattern.compile("none|(SecureStrings|All):pm1:([a-z0-9-]+)");
    static final Pattern MAC = Pattern.compile("pm1:([a-z0-9-]+):([A-Za-z0-9_-]+)");
    static final List<String> COVERED =
            List.of("@format", "@enc", "@source", "@revision", "@readAt", "@count", "@params", "@mac");

    static Map<String, String> read(String url, String key, Map<String, byte[]> subKeys, String least) throws Exception {
        Map<String, String> fields;
        try (Jedis redis = new Jedis(URI.create(url))) {
            fields = redis.hgetAll(key); // one command, so all of it is of one moment
        }
        must(!fields.isEmpty(), "no such hash");
        must("1".equals(fields.get("@format")), "the layout is " + fields.get("@format") + ", not 1");
        if (subKeys != null) {
            verify(fields, key, subKeys);
        }
        Map<String, Line> params = new Gson().fromJson(fields.get("@params"), new TypeToken<Map<String, Line>>() {});
        must(params != null, "no @params");
        must(String.valueOf(params.size()).equals(fields.get("@count")),
                "@count is " + fields.get("@count") + ", but @params names " + params.size());
        var enc = ENC.matcher(fields.getOrDefault("@enc", ""));
        must(enc.matches(), "@enc is " + fields.get("@enc"));
        Map<String, String> values = new TreeMap<>();
        for (String name : params.keySet()) {
            String stored = fields.get(name);
            must(stored != null, name + " is in @params and has no field");
            String type = params.get(name).type();
            boolean secure = "SecureString".equals(type);
            boolean encrypted = "All".equals(enc.group(1)) || "SecureStrings".equals(enc.group(1)) && secure;
            boolean mayBePlain = !"All".equals(least) && !(secure && subKeys != null);
            must(encrypted || mayBePlain, name + " is a " + type + " that is not encrypted");
            values.put(name, encrypted ? open(subKeys, enc.group(2), key, name, stored) : stored);
        }
        return values;
    }

    /** Fails unless these fields were written with the sub-key of this mirror. */
    static void verify(Map<String, String> fields, String key, Map<String, byte[]> subKeys) throws Exception {
        var mac = MAC.matcher(fields.getOrDefault("@readerMac", ""));
        String keyId = mac.matches() ? mac.group(1) : "";
        must(subKeys.containsKey(keyId), "@readerMac needs the key " + keyId + ", which is not given");
        List<String> covered = new ArrayList<>(List.of("pm1", keyId, "set", key));
        COVERED.forEach(name -> covered.add(fields.getOrDefault(name, "")));
        new TreeMap<>(fields).forEach((name, stored) -> {
            if (name.startsWith("/")) {
                covered.addAll(List.of(name, stored));
            }
        });
        byte[] macKey = hmac(subKeys.get(keyId), "parameter-mirror/1/reader-mac".getBytes(StandardCharsets.UTF_8));
        String expected = Base64.getUrlEncoder().withoutPadding().encodeToString(hmac(macKey, lp(covered)));
        must(MessageDigest.isEqual(expected.getBytes(), mac.group(2).getBytes()),
                "@readerMac does not fit: the hash was changed, or the sub-key is that of another mirror");
    }

    static byte[] hmac(byte[] key, byte[] message) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(message);
    }

    static byte[] lp(List<String> items) throws IOException {
        var all = new ByteArrayOutputStream();
        for (String item : items) {
            byte[] bytes = item.getBytes(StandardCharsets.UTF_8);
            new DataOutputStream(all).writeInt(bytes.length);
            all.write(bytes);
        }
        return all.toByteArray();
    }

    static String open(Map<String, byte[]> subKeys, String keyId, String key, String name, String stored) throws Exception {
        byte[] subKey = subKeys == null ? null : subKeys.get(keyId);
        must(subKey != null, name + " is encrypted with the key " + keyId + ", which is not given");
        must(stored.startsWith("pm1:" + keyId + ":"), name + " is not encrypted with the key " + keyId);
        try {
            byte[] sealed = Base64.getUrlDecoder().decode(stored.split(":", 3)[2]);
            Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
            var nonce = new GCMParameterSpec(128, sealed, 0, 12);
            cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(subKey, "AES"), nonce);
            cipher.updateAAD(lp(List.of("pm1", keyId, key, name)));
            return new String(cipher.doFinal(sealed, 12, sealed.length - 12), StandardCharsets.UTF_8);
        } catch (GeneralSecurityException | IllegalArgumentException error) {
            throw new IllegalStateException(name + " does not decrypt");
        }
    }

    static void must(boolean holds, String why) {
        if (!holds) {
            throw new IllegalStateException(why);
        }
    }

    public static void main(String[] args) {
        try {
            Map<String, byte[]> subKeys = args.length > 2 ? new HashMap<>() : null;
            for (String line : args.length > 2 ? Files.readAllLines(Path.of(args[2])) : List.<String>of()) {
                if (!line.isBlank()) {
                    subKeys.put(line.split(":")[0], Base64.getUrlDecoder().decode(line.strip().split(":")[1]));
                }
            }
            Map<String, String> values = read(args[0], args[1], subKeys, args.length > 3 ? args[3] : "");
            System.out.writeBytes((new Gson().toJson(values) + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (Exception error) {
            System.err.println(args[1] + ": " + error.getMessage());
            System.exit(1);
        }
    }
}
