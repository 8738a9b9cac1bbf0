// HashiCorp's Go client, unmodified, against the vault that VAULT_ADDR and VAULT_TOKEN name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

var passed, failed int

func check(name string, body func() error) {
	if err := body(); err != nil {
		failed++
		fmt.Printf("not ok %s: %v\n", name, err)
		return
	}
	passed++
	fmt.Printf("ok %s\n", name)
}

func want(got, expected any) error {
	if !reflect.DeepEqual(got, expected) {
		return fmt.Errorf("got %v, expected %v", got, expected)
	}
	return nil
}

func code(err error, expected int) error {
	var response *api.ResponseError
	if !errors.As(err, &response) {
		return fmt.Errorf("expected status %d, got %v", expected, err)
	}
	return want(response.StatusCode, expected)
}

func main() {
	ctx := context.Background()
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		fmt.Println("not ok client:", err)
		os.Exit(1)
	}
	kv := client.KVv2("secret")
	run := fmt.Sprintf("go-%d", os.Getpid())

	check("health, seal status, leader, token", func() error {
		health, err := client.Sys().Health()
		if err != nil {
			return err
		}
		if health.Sealed || !health.Initialized {
			return fmt.Errorf("health %+v", health)
		}
		if seal, err := client.Sys().SealStatus(); err != nil || seal.Sealed {
			return fmt.Errorf("seal status %+v, %w", seal, err)
		}
		if _, err := client.Sys().Leader(); err != nil {
			return err
		}
		self, err := client.Auth().Token().LookupSelf()
		if err != nil {
			return err
		}
		if self.Data["id"] == nil {
			return fmt.Errorf("lookup-self without id: %v", self.Data)
		}
		_, err = client.Auth().Token().RenewSelf(3600)
		return err
	})
	check("mounts and capabilities", func() error {
		mounts, err := client.Sys().ListMounts()
		if err != nil {
			return err
		}
		if mounts["secret/"] == nil {
			return fmt.Errorf("no secret/ in %v", mounts)
		}
		if err := want(mounts["secret/"].Options["version"], "2"); err != nil {
			return err
		}
		capabilities, err := client.Sys().CapabilitiesSelf("secret/data/" + run)
		if err != nil || len(capabilities) == 0 {
			return fmt.Errorf("capabilities %v, %w", capabilities, err)
		}
		return nil
	})
	check("put, get, versions, metadata", func() error {
		at := run + "/a"
		if _, err := kv.Put(ctx, at, map[string]any{"k": "1"}); err != nil {
			return err
		}
		second, err := kv.Put(ctx, at, map[string]any{"k": "2", "n": map[string]any{"x": []any{true, nil, "s"}}})
		if err != nil {
			return err
		}
		if err := want(second.VersionMetadata.Version, 2); err != nil {
			return err
		}
		got, err := kv.Get(ctx, at)
		if err != nil {
			return err
		}
		if err := want(got.Data["k"], "2"); err != nil {
			return err
		}
		first, err := kv.GetVersion(ctx, at, 1)
		if err != nil {
			return err
		}
		if err := want(first.Data["k"], "1"); err != nil {
			return err
		}
		versions, err := kv.GetVersionsAsList(ctx, at)
		if err != nil {
			return err
		}
		return want(len(versions), 2)
	})
	check("big integers are kept exactly", func() error {
		at := run + "/big"
		number := json.Number("12345678901234567890123")
		if _, err := kv.Put(ctx, at, map[string]any{"n": number}); err != nil {
			return err
		}
		got, err := kv.Get(ctx, at)
		if err != nil {
			return err
		}
		return want(got.Data["n"], number)
	})
	check("check-and-set", func() error {
		at := run + "/cas"
		if _, err := kv.Put(ctx, at, map[string]any{"k": "1"}, api.WithCheckAndSet(0)); err != nil {
			return err
		}
		_, err := kv.Put(ctx, at, map[string]any{"k": "2"}, api.WithCheckAndSet(0))
		if err := code(err, 400); err != nil {
			return err
		}
		if !strings.Contains(err.Error(), "check-and-set parameter did not match the current version") {
			return fmt.Errorf("text: %w", err)
		}
		_, err = kv.Put(ctx, at, map[string]any{"k": "2"}, api.WithCheckAndSet(1))
		return err
	})
	check("patch, by merge and by read and write", func() error {
		at := run + "/patch"
		if _, err := kv.Put(ctx, at, map[string]any{"keep": "k", "drop": "d"}); err != nil {
			return err
		}
		if _, err := kv.Patch(ctx, at, map[string]any{"drop": nil, "add": "a"}, api.WithMergeMethod("patch")); err != nil {
			return err
		}
		if _, err := kv.Patch(ctx, at, map[string]any{"more": "m"}, api.WithMergeMethod("rw")); err != nil {
			return err
		}
		got, err := kv.Get(ctx, at)
		if err != nil {
			return err
		}
		return want(got.Data, map[string]any{"keep": "k", "add": "a", "more": "m"})
	})
	check("delete, undelete, destroy, rollback", func() error {
		at := run + "/life"
		for _, value := range []string{"1", "2"} {
			if _, err := kv.Put(ctx, at, map[string]any{"k": value}); err != nil {
				return err
			}
		}
		if err := kv.Delete(ctx, at); err != nil {
			return err
		}
		gone, err := kv.Get(ctx, at)
		if err != nil {
			return err
		}
		if gone.Data != nil || gone.VersionMetadata.DeletionTime.IsZero() {
			return fmt.Errorf("a deleted version shows %v, deleted %v", gone.Data, gone.VersionMetadata.DeletionTime)
		}
		if err := kv.Undelete(ctx, at, []int{2}); err != nil {
			return err
		}
		if _, err := kv.Rollback(ctx, at, 1); err != nil {
			return err
		}
		got, err := kv.Get(ctx, at)
		if err != nil {
			return err
		}
		if err := want(got.Data["k"], "1"); err != nil {
			return err
		}
		if err := kv.Destroy(ctx, at, []int{1, 2}); err != nil {
			return err
		}
		metadata, err := kv.GetMetadata(ctx, at)
		if err != nil {
			return err
		}
		return want(metadata.Versions["1"].Destroyed, true)
	})
	check("metadata: put, patch, custom, delete", func() error {
		at := run + "/meta"
		input := api.KVMetadataPutInput{MaxVersions: 3, CustomMetadata: map[string]any{"owner": "jonas"}}
		if err := kv.PutMetadata(ctx, at, input); err != nil {
			return err
		}
		patch := api.KVMetadataPatchInput{CustomMetadata: map[string]any{"issuer": "example"}}
		if err := kv.PatchMetadata(ctx, at, patch); err != nil {
			return err
		}
		metadata, err := kv.GetMetadata(ctx, at)
		if err != nil {
			return err
		}
		if err := want(metadata.CustomMetadata, map[string]any{"owner": "jonas", "issuer": "example"}); err != nil {
			return err
		}
		if err := want(metadata.MaxVersions, 3); err != nil {
			return err
		}
		if err := kv.DeleteMetadata(ctx, at); err != nil {
			return err
		}
		_, err = kv.GetMetadata(ctx, at)
		if !errors.Is(err, api.ErrSecretNotFound) {
			return fmt.Errorf("after deletion: %w", err)
		}
		return nil
	})
	check("what is not there is ErrSecretNotFound", func() error {
		_, err := kv.Get(ctx, run+"/none")
		if !errors.Is(err, api.ErrSecretNotFound) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	check("list", func() error {
		listed, err := client.Logical().List("secret/metadata/" + run)
		if err != nil || listed == nil {
			return fmt.Errorf("%v, %w", listed, err)
		}
		keys, _ := listed.Data["keys"].([]any)
		if len(keys) == 0 {
			return fmt.Errorf("keys %v", listed.Data)
		}
		return nil
	})
	check("odd paths", func() error {
		for _, name := range []string{"with space", "plus+plus", "per%cent", "größe", "x..y", "a=b&c", "q?r#s"} {
			at := run + "/odd/" + name
			if _, err := kv.Put(ctx, at, map[string]any{"name": name}); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			got, err := kv.Get(ctx, at)
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			if err := want(got.Data["name"], name); err != nil {
				return err
			}
		}
		return nil
	})
	check("64 KiB and 512 KiB values", func() error {
		for _, size := range []int{64 << 10, 512 << 10} {
			value := strings.Repeat("ä", size/2)
			if _, err := kv.Put(ctx, run+"/large", map[string]any{"v": value}); err != nil {
				return err
			}
			got, err := kv.Get(ctx, run+"/large")
			if err != nil {
				return err
			}
			if got.Data["v"] != value {
				return fmt.Errorf("%d bytes come back changed", size)
			}
		}
		return nil
	})
	check("16 writers at once lose nothing", func() error {
		var group sync.WaitGroup
		faults := make(chan error, 16)
		for n := range 16 {
			group.Add(1)
			go func() {
				defer group.Done()
				_, err := kv.Put(ctx, run+"/busy", map[string]any{"n": n})
				faults <- err
			}()
		}
		group.Wait()
		close(faults)
		for err := range faults {
			if err != nil {
				return err
			}
		}
		metadata, err := kv.GetMetadata(ctx, run+"/busy")
		if err != nil {
			return err
		}
		return want(metadata.CurrentVersion, 16)
	})
	check("tokens: a narrow one reads its paths only, until it is revoked", func() error {
		request := map[string]any{"path": "secret/" + run + "/a", "ttl": "1h", "capability": "read"}
		secret, err := client.Logical().Write("auth/token/create", request)
		if err != nil {
			return err
		}
		narrow, err := client.Clone()
		if err != nil {
			return err
		}
		narrow.SetToken(secret.Auth.ClientToken)
		theirs := narrow.KVv2("secret")
		if _, err := theirs.Get(ctx, run+"/a"); err != nil {
			return err
		}
		_, err = theirs.Get(ctx, run+"/big")
		if err := code(err, 403); err != nil {
			return fmt.Errorf("another path: %w", err)
		}
		_, err = theirs.Put(ctx, run+"/a", map[string]any{"k": "3"})
		if err := code(err, 403); err != nil {
			return fmt.Errorf("a write: %w", err)
		}
		if err := client.Auth().Token().RevokeTree(secret.Auth.ClientToken); err != nil {
			return err
		}
		_, err = theirs.Get(ctx, run+"/a")
		return code(err, 403)
	})
	check("tokens: a child, made as Terraform's provider does, has its parent's rights", func() error {
		renewable := false
		secret, err := client.Auth().Token().Create(&api.TokenCreateRequest{
			DisplayName: "terraform", TTL: "1200s", ExplicitMaxTTL: "1200s", Renewable: &renewable,
		})
		if err != nil {
			return err
		}
		if err := want(secret.Auth.LeaseDuration, 1200); err != nil {
			return err
		}
		child, err := client.Clone()
		if err != nil {
			return err
		}
		child.SetToken(secret.Auth.ClientToken)
		theirs := child.KVv2("secret")
		if _, err := theirs.Put(ctx, run+"/child", map[string]any{"k": "1"}); err != nil {
			return err
		}
		if _, err := theirs.Get(ctx, run+"/child"); err != nil {
			return err
		}
		if err := child.Auth().Token().RevokeSelf(""); err != nil {
			return err
		}
		_, err = theirs.Get(ctx, run+"/child")
		return code(err, 403)
	})
	check("a wrong token is 403, at once", func() error {
		stranger, err := client.Clone()
		if err != nil {
			return err
		}
		stranger.SetToken("none")
		started := time.Now()
		_, err = stranger.KVv2("secret").Get(ctx, run+"/a")
		if err := code(err, 403); err != nil {
			return err
		}
		if waited := time.Since(started); waited > 20*time.Second {
			return fmt.Errorf("waited %v", waited)
		}
		return nil
	})
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
